class ErrorExpansion:
    number=1

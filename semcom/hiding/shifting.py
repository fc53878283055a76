class HistogramShifting:
    number=2

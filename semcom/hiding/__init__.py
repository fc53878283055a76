"""Reversible data hiding in 8-bit pictures: payload and host come back bit for bit."""

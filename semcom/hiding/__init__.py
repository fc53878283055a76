"""Reversible data hiding in 8-bit pictures: payload and host are both recovered bit for bit."""

"""Closed forms and solvers for rate, distortion and perception, against which measurements are compared."""

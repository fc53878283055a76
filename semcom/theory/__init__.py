"""What measurements are held against: closed forms of rate, distortion and perception."""

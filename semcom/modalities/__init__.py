"""What can be sent: pictures, clips and texts."""

"""What is measured of this project; see README.md."""

"""Other libraries' files of trained weights: one file per family says how its names and settings map to our model."""

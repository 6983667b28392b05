"""Code that goes into the folder of an exported model: it must run without PyTorch and without Fathom."""

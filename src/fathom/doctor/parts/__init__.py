"""What several families of findings share."""

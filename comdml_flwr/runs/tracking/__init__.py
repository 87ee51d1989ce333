"""A run's numbers in Weights & Biases and in TensorBoard, besides the files that are always written."""

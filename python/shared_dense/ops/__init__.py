"""The op as a function, its gradients, and the same of TensorFlow's own ops."""

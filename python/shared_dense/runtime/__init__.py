"""What runs, and why: the libraries, the path of a call, the corners of TensorFlow."""

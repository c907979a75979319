"""The Keras layers, and the export of models that have them."""

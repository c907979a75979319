"""Prints version, include dir, library dir and definitions of TensorFlow, a line each."""

import tensorflow as tf

flags = tf.sysconfig.get_compile_flags()
print(tf.__version__)
print(tf.sysconfig.get_include())
print(tf.sysconfig.get_lib())
print(" ".join(flag for flag in flags if flag.startswith("-D")))

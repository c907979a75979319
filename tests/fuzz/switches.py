"""What the harness does not ask for yet: each waits for a change in the library."""

# An output that no loss uses: its input's gradient is None where plain reuse's is, and a step of an
# optimizer, which skips None, leaves equal weights.
NONE_AS_PLAIN = True
# Equal rows in two inputs whose gradients cancel: the gradient of their bias is 0 to the bit.
CANCELS_EXACTLY = True

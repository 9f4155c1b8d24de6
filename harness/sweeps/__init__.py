"""Many runs: how they are launched, share a machine or wait in a queue, and how each ended."""

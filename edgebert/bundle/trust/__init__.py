"""Who signed a bundle, and whether that counts here. Signatures are OpenSSF model signatures, by model-signing."""

"""Who signed a bundle, and whether this machine trusts the signer. Signatures are OpenSSF model signatures."""

"""Shipping: brings a bundle to one device or many, and asks devices what they serve."""

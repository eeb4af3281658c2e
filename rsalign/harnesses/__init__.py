"""Adapters that let other evaluation harnesses use aligned responses as a model."""

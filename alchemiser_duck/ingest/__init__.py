"""Writes the lake: Alpaca's bars and actions, merged and reported."""

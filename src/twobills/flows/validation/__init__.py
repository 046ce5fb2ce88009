"""Forecasts held against what others measured."""

"""Tests of what leaves limner."""

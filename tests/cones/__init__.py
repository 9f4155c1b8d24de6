"""Tests of Cones."""

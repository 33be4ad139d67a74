"""Adversaries of the secure aggregation: each lies in one method, and the honest sites are real."""

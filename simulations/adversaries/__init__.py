"""Adversaries of the secure aggregation: each lies in one method and plays against honest sites made of the real classes."""

"""Single-machine model code: spec, tokenizer, inputs, backbone, adapters, loss, evaluation, pretraining, export.

Knows nothing of federation or privacy and imports nothing of ours.
"""

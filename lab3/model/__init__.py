"""Pictures <-> tokens -> logits: the tokenizer, the transformer, encoded data sets."""

"""Texts by pretrained language models: prompt compression, semantic compression, editing, entropy coding."""

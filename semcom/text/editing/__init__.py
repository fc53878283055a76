"""In-context editing: a long text as outside knowledge, read step by step by a model with a short window.

The structure is that of Fei et al., "Efficiently Exploring Large Language Models for Document-Level Machine
Comprehension with Dynamic In-Context Editing", arXiv 2406.12331: a planner, a retriever, and two ways of
inference. Prompts and constants are reconstructed from its abstract and from MeLLo (Zhong et al., 2023).
"""

"""Conversations as models read them: messages, chat templates, and which tokens are learned."""

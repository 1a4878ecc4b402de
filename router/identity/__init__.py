"""Who calls and what they may: keys, tokens and certificates; limits. See docs/identity.md."""

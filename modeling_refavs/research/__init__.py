"""How the shipped checkpoint came about and what it was compared with; nothing but `commands/`
imports it."""

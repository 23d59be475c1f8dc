"""TypeScript processors, unmodified, in Node peers that live on virtual time."""

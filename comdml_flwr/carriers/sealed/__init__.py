"""Mail that only its receiver can read: keys and their signed cards."""

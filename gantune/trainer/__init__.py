"""The trainers: what every method shares, and the game of generator and discriminator."""

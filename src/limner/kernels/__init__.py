"""The few operations that training and rendering spend their time in, fused; each has a plain form in torch."""

"""Files of weights: headers checked before use (without torch), tensors read and written one at a time."""

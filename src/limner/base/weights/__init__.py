"""Files of weights: headers read without trust (without torch too), tensors read and written one at a time."""

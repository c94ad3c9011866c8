"""Built-in samplers. All end alike: the last evaluation is at the schedule's lowest step, and its x_0 is the answer."""

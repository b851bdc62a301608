"""The same multi-teacher distillation by tutelage and by three other ways, in one run."""

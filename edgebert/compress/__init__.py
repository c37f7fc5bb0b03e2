"""compress: from a recipe to a bundle: recipe, layout, plan, run, check."""

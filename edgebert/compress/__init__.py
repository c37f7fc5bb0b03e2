"""compress: from a recipe to a bundle. recipe, resolve, layout, plan, compression (the steps), check, run."""

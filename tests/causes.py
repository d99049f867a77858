CAUSES = {}

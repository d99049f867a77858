"""Pictures and holes: the embedded cats, folders of your own, audit and import."""

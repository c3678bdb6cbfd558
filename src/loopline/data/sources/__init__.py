"""Where rows come from: files, databases, streams; read batch by batch as Polars frames, times in UTC."""

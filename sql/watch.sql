-- transcribe_workers where nothing runs
\d transcribe_progress
\d transcribe_workers
SELECT * FROM transcribe_workers;

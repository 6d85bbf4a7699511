"""Groups with files in and files out, as a job that resumes."""

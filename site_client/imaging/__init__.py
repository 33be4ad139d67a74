"""From a hospital's DICOM file to the picture that the model sees; every file is parsed in a child process."""

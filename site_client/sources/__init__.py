"""Where a site's samples come from: DICOM files and tables on disk, joined patient by patient."""

function video = pyflow_read_video(file, dataset)
%PYFLOW_READ_VIDEO  Read a video or a stack of masks that pyflow wrote.
%
%   video = pyflow_read_video('rec1/compensated.hdf5')          channel ch1
%   video = pyflow_read_video('rec1/compensated.hdf5', 'ch2')   another channel
%   masks = pyflow_read_video('rec1/idx.hdf', 'idx')            uint8, 0 or 255
%
%   Returns height x width x frames. MATLAB keeps the data type; Octave turns single into double.
%   The whole data set is read; in MATLAB, h5read with start and count reads some frames.

if nargin < 2
    dataset = 'ch1';
end
if exist(file, 'file') ~= 2
    error('pyflow:noFile', 'there is no file %s', file);
end
if exist('OCTAVE_VERSION', 'builtin')
    content = load('-hdf5', file, dataset);
    if ~isfield(content, dataset)
        error('pyflow:noDataset', '%s holds no data set %s', file, dataset);
    end
    video = content.(dataset);
else
    video = h5read(file, ['/' dataset]);
end
video = permute(video, [2 1 3]);  % on disk a row of the image is contiguous: both show width x height x frames
end

function pyflow_write_recording(folder, video, masks)
%PYFLOW_WRITE_RECORDING  Write a recording that MATLAB compensated so that pyflow's stages 2 and 3 go on from it.
%
%   pyflow_write_recording(folder, video, masks)
%
%   folder   <output_root>/<recording>, made if needed
%   video    height x width x frames, or a cell with one such array per channel; the compensated frames
%   masks    height x width x frames, nonzero where a pixel of a frame is valid
%
%   Writes compensated.hdf5 (ch1, ch2, ...) and idx.hdf. The temporal average is computed by stage 2.
%   Octave has no function for plain HDF5 data sets: there, a channel is written as a group that holds its 'value',
%   as by save -hdf5, which pyflow reads too.

if ~iscell(video)
    video = {video};
end
for c = 1:numel(video)
    if ~isequal(size(video{c}), size(masks))
        error('pyflow:size', 'channel %d is %s, but the masks are %s', c, mat2str(size(video{c})), mat2str(size(masks)));
    end
end
if exist(folder, 'dir') ~= 7
    mkdir(folder);
end
names = arrayfun(@(c) sprintf('ch%d', c), 1:numel(video), 'UniformOutput', false);
write_hdf5(fullfile(folder, 'compensated.hdf5'), names, video);
write_hdf5(fullfile(folder, 'idx.hdf'), {'idx'}, {255 * uint8(masks ~= 0)});
end

function write_hdf5(file, names, arrays)
temporary = [file '.partial'];
if exist(temporary, 'file') == 2
    delete(temporary);
end
arrays = cellfun(@(a) permute(a, [2 1 3]), arrays, 'UniformOutput', false);
if exist('OCTAVE_VERSION', 'builtin')
    content = cell2struct(arrays(:), names(:), 1);
    save('-hdf5', temporary, '-struct', 'content');
else
    for k = 1:numel(names)
        dataset = ['/' names{k}];
        chunk = [size(arrays{k}, 1), size(arrays{k}, 2), 1];
        h5create(temporary, dataset, size(arrays{k}), 'Datatype', class(arrays{k}), 'ChunkSize', chunk);
        h5write(temporary, dataset, arrays{k});
    end
end
[ok, message] = movefile(temporary, file, 'f');
if ~ok
    error('pyflow:write', 'could not write %s: %s', file, message);
end
end

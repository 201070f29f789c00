function session = pyflow_load_session(folder)
%PYFLOW_LOAD_SESSION  Load the results of a session.
%
%   session = pyflow_load_session('final_results') loads final_valid_idx.mat from that folder into a struct, with one cell
%   per recording whoever wrote the file (pyflow, Flow-Registration or pyflowreg), and adds
%
%     session.n                      number of recordings
%     session.video_files{i}         compensated video of recording i
%     session.aligned_files{i}       the same in the centre's frame, where there are such videos
%
%   The paths in the file are relative to its folder; video_files and aligned_files are absolute and open from anywhere.
%
%   session.final_valid is logical, height x width:   pixels = frame(session.final_valid);
%   session.middle_idx counts from 1:                 session.recordings{session.middle_idx}
%   session.displacement_fields{i}(:, :, 1) is u (along columns), (:, :, 2) is v (along rows), in pixels, backward:
%   aligned(y, x) = recording(y + v, x + u).

file = fullfile(folder, 'final_valid_idx.mat');
if exist(file, 'file') ~= 2
    error('pyflow:noSession', 'there is no session in %s: final_valid_idx.mat is missing', folder);
end
session = load(file);
session.final_valid = logical(session.final_valid);

for name = {'aligned_valid_masks', 'per_seq_valid_masks', 'temporal_averages'}
    if isfield(session, name{1}) && ~iscell(session.(name{1}))
        session.(name{1}) = stack_to_cells(session.(name{1}));
    end
end
for name = {'compensated_h5_paths', 'recordings', 'aligned_video_paths'}
    if isfield(session, name{1}) && ischar(session.(name{1}))
        session.(name{1}) = cellstr(session.(name{1}));
    end
end
for name = {'aligned_valid_masks', 'per_seq_valid_masks'}
    session.(name{1}) = cellfun(@logical, session.(name{1})(:), 'UniformOutput', false);
end
session.middle_idx = double(session.middle_idx);

session.video_files = absolute(folder, session.compensated_h5_paths);
session.n = numel(session.video_files);
session.aligned_files = cell(0, 1);
if isfield(session, 'aligned_video_paths')
    session.aligned_files = absolute(folder, session.aligned_video_paths);
end
end

function files = absolute(folder, paths)
files = paths(:);
if ~is_absolute(folder)
    folder = fullfile(pwd, folder);
end
for i = 1:numel(files)
    if ~is_absolute(files{i})  % pyflowreg and MATLAB write absolute paths
        files{i} = [folder filesep files{i}];
    end
end
end

function answer = is_absolute(path)
answer = any(strncmp(path, {'/', '\'}, 1)) || (numel(path) > 1 && path(2) == ':');
end

function cells = stack_to_cells(stack)
% pyflowreg's stacks have the recording first
cells = cell(size(stack, 1), 1);
for i = 1:size(stack, 1)
    cells{i} = reshape(stack(i, :), [size(stack, 2), size(stack, 3), size(stack, 4)]);
end
end

function session = pyflow_load_session(folder)
%PYFLOW_LOAD_SESSION  Load the results of a session.
%
%   session = pyflow_load_session('final_results') loads final_valid_idx.mat from that folder into a struct, with one cell
%   per recording whoever wrote the file (pyflow, Flow-Registration or pyflowreg), and adds
%
%     session.n                      number of recordings
%     session.video_files{i}         compensated video of recording i
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

paths = session.compensated_h5_paths(:);
session.n = numel(paths);
session.video_files = cell(session.n, 1);
for i = 1:session.n
    session.video_files{i} = [folder filesep paths{i}];
    if exist(session.video_files{i}, 'file') ~= 2  % pyflowreg and MATLAB write absolute paths
        session.video_files{i} = paths{i};
    end
end
end

function cells = stack_to_cells(stack)
% pyflowreg's stacks have the recording first
cells = cell(size(stack, 1), 1);
for i = 1:size(stack, 1)
    cells{i} = reshape(stack(i, :), [size(stack, 2), size(stack, 3), size(stack, 4)]);
end
end

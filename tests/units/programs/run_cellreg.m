% CellReg's own clustering, in GNU Octave, of centroids.mat in the current folder: folder of CellReg's repository.
1;

function found = in_cells(found, f)
    if iscell(found)
        found = cellfun(@(one) in_cells(one, f), found, 'UniformOutput', false);
    else
        found = f(found);
    end
end

function r = corr2(a, b)  % of MATLAB's image toolbox
    a -= mean(a(:));
    b -= mean(b(:));
    r = sum(a(:) .* b(:)) / sqrt(sum(a(:).^2) * sum(b(:).^2));
end

repository = argv(){1};
addpath([repository '/CellReg'], [repository '/Helper']);
load centroids.mat
[indexes, ~, distances] = compute_data_distribution(footprints, centroids, 8);
map = initial_registration_centroid_distances(8, 5, centroids);
p_same = in_cells(distances, @(distance) 1 ./ (1 + exp(2 * (distance - 4))));
[map, ~, scores] = cluster_cells(map, p_same, indexes, 8, 0.5, centroids, 'Probabilistic', false);
cell_registered_struct = struct('cell_to_index_map', map, 'cell_scores', scores');
cell_registered_struct.centroid_locations_corrected = centroids';
save('-v7', 'cellRegistered_20260101_120000.mat', 'cell_registered_struct');
